//! The Lambda function `threatfeed`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    collector::serve(&functions::threatfeed::SOURCE).await
}
