//! The Lambda function `messageholdlist`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::messageholdlist::SOURCE).await
}
