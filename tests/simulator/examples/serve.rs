//! Runs the simulated Mimecast with a lively data set until stdin is closed.
//!
//! Prints one line of JSON: `base_url`, and `secret_v1` and `secret_v2` as the product's secrets look.

use std::io;

use serde_json::{Value, json};
use simulator::{Mimecast, data};
use tokio::io::AsyncReadExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mimecast = Mimecast::start().await?;
    data::lively(&mimecast, 1, mimecast.now(), 1);
    let secret_v1: Value = serde_json::from_str(&mimecast.secret_v1())?;
    let secret_v2: Value = serde_json::from_str(&mimecast.secret_v2())?;
    println!("{}", json!({"base_url": mimecast.base_url(), "secret_v1": secret_v1, "secret_v2": secret_v2}));
    let mut stdin = tokio::io::stdin();
    while stdin.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}
