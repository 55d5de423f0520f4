//! The Lambda function `view`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::view::SOURCE).await
}
