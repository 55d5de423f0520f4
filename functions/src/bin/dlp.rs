//! The Lambda function `dlp`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::dlp::SOURCE).await
}
