//! The wire: what passes is the same as without a proxy, over every pairing of HTTP/1.1 and HTTP/2.

mod breakage;
mod choice;
mod corpus;
mod ends;
mod flow;
mod old;
mod secrets;
mod upgrades;
mod works;
