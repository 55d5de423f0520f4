//! The collector on one host without AWS: what the `mimecast-devo` program is made of.

pub mod embedded;
