//! The Lambda function `impersonation`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::impersonation::SOURCE).await
}
