//! The Lambda function `siemci`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::siemci::SOURCE).await
}
