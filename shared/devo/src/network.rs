//! The seam for simulations: what carries a request in the network's place, where there are no sockets and time is virtual.

use std::{fmt::Debug, pin::Pin};

use reqwest::{Request, Response, Result};

/// Carries the requests of the HTTP way in the network's place.
pub trait Network: Debug + Send + Sync {
    /// As `reqwest::Client::execute`: gives the answer's head, with the body to come. The request's time-out is kept here.
    fn execute(&self, request: Request) -> Pin<Box<dyn Future<Output = Result<Response>> + Send>>;
}
