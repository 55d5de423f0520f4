//! The Lambda function `attachments`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::attachments::SOURCE).await
}
