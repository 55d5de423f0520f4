# It cannot be destroyed while it is protected; a later installation goes on with it by `existing_table`.
resource "aws_dynamodb_table" "checkpoints" {
  count                       = var.existing_table == "" ? 1 : 0
  name                        = "${var.name}-checkpoints"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = true

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn != "" ? var.kms_key_arn : null
  }
}

# Runs that failed, ticks that Lambda dropped and those that the scheduler could not deliver, each with its reason.
resource "aws_sqs_queue" "failed_runs" {
  name                      = "${var.name}-failed-runs"
  message_retention_seconds = 1209600
  sqs_managed_sse_enabled   = var.kms_key_arn != "" ? null : true
  kms_master_key_id         = var.kms_key_arn != "" ? var.kms_key_arn : null
}
