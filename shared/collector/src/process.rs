//! What lives as long as the process and speaks to the platform: how an invocation comes in, what it is answered, its metrics and
//! logs, its secrets, and the clients that stay open between invocations. What a run does is none of its business.

pub(crate) mod answer;
pub(crate) mod aws;
pub(crate) mod check;
pub(crate) mod collector;
pub(crate) mod invocation;
pub(crate) mod lambda;
pub(crate) mod logging;
pub(crate) mod report;
pub(crate) mod secrets;
