output "checkpoint_table_name" {
  description = "The checkpoint table"
  value       = local.table
}

output "failed_runs_url" {
  description = "The queue of failed runs"
  value       = aws_sqs_queue.failed_runs.url
}

output "function_arns" {
  description = "The function of each source that is collected"
  value       = { for name, function in aws_lambda_function.source : name => function.arn }
}

output "metrics_namespace" {
  description = "The CloudWatch namespace of the metrics"
  value       = local.namespace
}
