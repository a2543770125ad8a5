//! The wire: what passes is the same as without a proxy, over every pairing of HTTP/1.1 and HTTP/2.

mod corpus;
mod flow;
mod works;
