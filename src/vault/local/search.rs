//! Looking for stored secrets in other texts, without giving any of them out.

use super::LocalStore;
use super::error::StoreError;
use super::seal::Slot;
use super::stored::Stored;
use crate::credential::Secret;

impl LocalStore {
    /// Which of these texts hold a stored secret, a previous one too. A short secret counts only where it is the
    /// whole text: as a part it would be found nearly everywhere. A secret in Vault is not here to be looked for.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read; a row that does not open is passed over.
    pub fn reveals(&self, texts: &[&[u8]]) -> Result<Vec<bool>, StoreError> {
        let snapshot = self.lock().read(&self.keys)?;
        let mut found = vec![false; texts.len()];
        for meta in &snapshot.manifest.credentials {
            let Some(row) = snapshot.rows.get(&meta.id) else { continue };
            let previous = row.previous.as_ref().map(|sealed| (Slot::Previous, sealed));
            for (slot, sealed) in std::iter::once((Slot::Current, &row.sealed)).chain(previous) {
                let Ok(Stored::Secret(secret)) = self.keys.open_value(meta, slot, sealed) else { continue };
                for (text, found) in texts.iter().zip(&mut found) {
                    *found |= holds(text, &secret);
                }
            }
        }
        Ok(found)
    }
}

fn holds(text: &[u8], secret: &Secret) -> bool {
    if secret.is_weak() { text.trim_ascii() == secret.expose() } else { memchr::memmem::find(text, secret.expose()).is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_text_or_the_whole() {
        let holds = |text: &str, secret: &str| holds(text.as_bytes(), &Secret::from_opened(secret.as_bytes()));
        assert!(holds("Bearer sk-or-v1-test-0001 x", "sk-or-v1-test-0001"));
        assert!(!holds("sk-or-v1-test-000", "sk-or-v1-test-0001"));
        assert!(holds("short\n", "short") && !holds("shorter", "short"));
    }
}
