//! The Lambda function `url`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::url::SOURCE).await
}
