//! Suspends the use of a credential by an agent whose answers carry the secret again and again: once is a debug page, often is a search
//! for a form of the secret that the scrubber does not know.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::agent::AgentName;
use crate::credential::CredentialId;
use crate::policy::{AgentView, Rule};

/// So many answers that carried the secret,
pub(super) const HITS: usize = 60;
/// within this time,
pub(super) const WITHIN: Duration = Duration::from_secs(10 * 60);
/// suspend the grant for so long.
pub(super) const LASTS: Duration = Duration::from_secs(60 * 60);
/// Grants that are kept count of. A grant past them displaces the one that was hit longest ago and is not suspended.
const MOST: usize = 4096;

/// One agent's use of one credential. A new token or a new value is another use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Use {
    agent: AgentName,
    generation: u64,
    credential: CredentialId,
    version: u64,
}

impl Use {
    fn of(agent: &AgentView, rule: &Rule) -> Self {
        Self { agent: agent.name.clone(), generation: agent.generation, credential: rule.id, version: rule.version }
    }
}

/// Never empty of hits unless it is suspended.
#[derive(Default)]
struct Entry {
    hits: VecDeque<Instant>,
    until: Option<Instant>,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        match self.until {
            Some(until) => until <= now,
            None => self.hits.back().is_none_or(|last| *last + WITHIN <= now),
        }
    }
}

/// Which grants are suspended, and the hits of those that are not.
#[derive(Default)]
pub(super) struct Suspensions {
    uses: Mutex<HashMap<Use, Entry>>,
    /// How many are suspended, or were: while it is 0, nothing need be looked up.
    suspended: AtomicUsize,
}

impl Suspensions {
    /// An answer carried the secret. Says whether that suspends the grant.
    pub(super) fn hit(&self, agent: &AgentView, rule: &Rule, now: Instant) -> bool {
        self.note(Use::of(agent, rule), now)
    }

    /// For how long the grant is still suspended.
    pub(super) fn left(&self, agent: &AgentView, rule: &Rule, now: Instant) -> Option<Duration> {
        if self.suspended.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.look(&Use::of(agent, rule), now)
    }

    fn note(&self, key: Use, now: Instant) -> bool {
        let Ok(mut uses) = self.uses.lock() else { return false };
        if uses.len() >= MOST && !uses.contains_key(&key) {
            self.make_room(&mut uses, now);
        }
        let entry = uses.entry(key).or_default();
        if entry.until.is_some_and(|until| until > now) {
            // An answer that was on its way.
            return false;
        }
        if entry.until.take().is_some() {
            self.suspended.fetch_sub(1, Ordering::Relaxed);
        }
        entry.hits.push_back(now);
        while entry.hits.front().is_some_and(|first| *first + WITHIN <= now) {
            entry.hits.pop_front();
        }
        if entry.hits.len() < HITS {
            return false;
        }
        *entry = Entry { hits: VecDeque::new(), until: Some(now + LASTS) };
        self.suspended.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn look(&self, key: &Use, now: Instant) -> Option<Duration> {
        let Ok(mut uses) = self.uses.lock() else { return None };
        let entry = uses.get(key)?;
        let until = entry.until?;
        if until > now {
            return Some(until - now);
        }
        uses.remove(key);
        self.suspended.fetch_sub(1, Ordering::Relaxed);
        None
    }

    fn make_room(&self, uses: &mut HashMap<Use, Entry>, now: Instant) {
        uses.retain(|_, entry| {
            let stays = !entry.is_over(now);
            if !stays && entry.until.is_some() {
                self.suspended.fetch_sub(1, Ordering::Relaxed);
            }
            stays
        });
        let longest_ago = uses.iter().filter_map(|(key, entry)| Some((*entry.hits.back()?, key))).min_by_key(|(last, _)| *last);
        if uses.len() >= MOST
            && let Some(key) = longest_ago.map(|(_, key)| key.clone())
        {
            uses.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(agent: &str, generation: u64, credential: u8, version: u64) -> Use {
        Use { agent: AgentName::parse(agent).expect("a name"), generation, credential: CredentialId([credential; 16]), version }
    }

    fn secs(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_sixtieth_hit_within_ten_minutes_suspends_for_an_hour() {
        let (book, start) = (Suspensions::default(), Instant::now());
        let key = of("a", 1, 1, 1);
        for n in 0..HITS as u64 - 1 {
            assert!(!book.note(key.clone(), start + secs(n * 10)), "hit {n}");
        }
        assert_eq!(book.look(&key, start + secs(590)), None);
        let last = start + WITHIN - secs(1);
        assert!(book.note(key.clone(), last));
        assert!(!book.note(key.clone(), last + secs(1)), "once");
        assert_eq!(book.look(&key, last), Some(LASTS));
        assert_eq!(book.look(&key, last + LASTS - secs(1)), Some(secs(1)));
        assert_eq!(book.look(&key, last + LASTS), None);
        assert_eq!(book.suspended.load(Ordering::Relaxed), 0);
        assert!(book.uses.lock().expect("a lock").is_empty(), "nothing is left");
        // It begins anew.
        assert!((1..HITS as u64).all(|n| !book.note(key.clone(), last + LASTS + secs(n))));
        assert!(book.note(key, last + LASTS + secs(60)));
    }

    #[test]
    fn hits_that_are_ten_minutes_old_do_not_count() {
        let (book, start) = (Suspensions::default(), Instant::now());
        let key = of("a", 1, 1, 1);
        for n in 0..1000 {
            // 59 in any ten minutes.
            assert!(!book.note(key.clone(), start + Duration::from_millis(n * 10_300)), "hit {n}");
        }
        assert!(book.uses.lock().expect("a lock")[&key].hits.len() < HITS);
    }

    #[test]
    fn another_agent_credential_token_or_value_is_another_use() {
        let (book, now) = (Suspensions::default(), Instant::now());
        for _ in 0..HITS {
            book.note(of("a", 1, 1, 1), now);
        }
        assert!(book.look(&of("a", 1, 1, 1), now).is_some());
        for other in [of("b", 1, 1, 1), of("a", 2, 1, 1), of("a", 1, 2, 1), of("a", 1, 1, 2)] {
            assert_eq!(book.look(&other, now), None, "{other:?}");
        }
    }

    #[test]
    fn its_memory_is_bounded_and_who_is_suspended_stays() {
        let (book, start) = (Suspensions::default(), Instant::now());
        let bad = of("a", 1, 1, 1);
        for _ in 0..HITS {
            book.note(bad.clone(), start);
        }
        for n in 0..MOST as u64 + 100 {
            book.note(of("b", n, 1, 1), start + Duration::from_millis(n));
        }
        assert!(book.uses.lock().expect("a lock").len() <= MOST);
        assert!(book.look(&bad, start + secs(60)).is_some());
        // What is over makes room.
        book.note(of("c", 1, 1, 1), start + LASTS + WITHIN);
        assert_eq!(book.uses.lock().expect("a lock").len(), 1);
        assert_eq!(book.suspended.load(Ordering::Relaxed), 0);
    }
}
