//! The Lambda function `rejections`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::rejections::SOURCE).await
}
