locals {
  chosen    = { for name in var.sources : name => local.sources[name] }
  namespace = "MimecastDevo/${var.name}"
  table     = var.existing_table == "" ? aws_dynamodb_table.checkpoints[0].name : var.existing_table
  account   = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
  file      = { for name in keys(local.sources) : name => "${name}-${var.architecture}.zip" }

  environment = {
    MIMECAST_SECRET_ID = var.tenant_secret_prefix != "" ? "${var.tenant_secret_prefix}{tenant}/mimecast" : var.mimecast_secret_name
    MIMECAST_REGION    = var.mimecast_region
    DEVO_SECRET_ID     = var.devo_secret_name != "" ? (var.tenant_secret_prefix != "" ? "${var.tenant_secret_prefix}{tenant}/devo" : var.devo_secret_name) : ""
    DEVO_URL           = var.devo_url != "secret" ? var.devo_url : ""
    DEVO_TAG           = var.devo_tag
    CHECKPOINT_TABLE   = local.table
    TENANT             = var.tenant
    METRICS_NAMESPACE  = local.namespace
    SETTINGS           = var.settings
  }
}

resource "aws_lambda_function" "source" {
  for_each         = local.chosen
  function_name    = "${var.name}-${each.key}"
  description      = "${each.value.what} of Mimecast to ${each.value.table} in Devo"
  filename         = var.bucket == "" ? "${var.folder}/${local.file[each.key]}" : null
  source_code_hash = var.bucket == "" ? filebase64sha256("${var.folder}/${local.file[each.key]}") : null
  s3_bucket        = var.bucket == "" ? null : var.bucket
  s3_key           = var.bucket == "" ? null : "${var.prefix}${local.file[each.key]}"
  handler          = "bootstrap"
  runtime          = "provided.al2023"
  architectures    = [var.architecture]
  memory_size      = each.value.memory
  timeout          = each.value.timeout
  role             = aws_iam_role.function[each.key].arn
  kms_key_arn      = var.kms_key_arn != "" ? var.kms_key_arn : null

  tracing_config {
    mode = "Active"
  }

  # The program itself leaves out what is below LOG_LEVEL. Lambda must not: it takes metrics, which have no level, for INFO.
  logging_config {
    log_format            = "JSON"
    application_log_level = "TRACE"
    system_log_level      = "WARN"
    log_group             = aws_cloudwatch_log_group.function[each.key].name
  }

  dynamic "vpc_config" {
    for_each = length(var.subnet_ids) > 0 ? [1] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  environment {
    # An empty value counts as one that is not set.
    variables = { for name, value in local.environment : name => value if value != "" }
  }

  # Lambda looks at what the role may do when it makes the function.
  depends_on = [aws_iam_role_policy.function, aws_iam_role_policy_attachment.network]
}

# The next tick is the retry: a failed run is not tried again, and a tick that has waited for a period is dropped. Both go to the
# queue of failed runs.
resource "aws_lambda_function_event_invoke_config" "source" {
  for_each                     = local.chosen
  function_name                = aws_lambda_function.source[each.key].function_name
  maximum_retry_attempts       = 0
  maximum_event_age_in_seconds = each.value.period

  destination_config {
    on_failure {
      destination = aws_sqs_queue.failed_runs.arn
    }
  }
}

resource "aws_cloudwatch_log_group" "function" {
  for_each          = local.chosen
  name              = "/aws/lambda/${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn != "" ? var.kms_key_arn : null
}
