//! The Lambda function `search`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::search::SOURCE).await
}
