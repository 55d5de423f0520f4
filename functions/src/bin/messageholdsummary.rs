//! The Lambda function `messageholdsummary`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::messageholdsummary::SOURCE).await
}
