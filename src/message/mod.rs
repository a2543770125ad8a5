//! HTTP messages as values: reading heads and bodies strictly, writing them anew.

pub mod h1;
