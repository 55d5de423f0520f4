locals {
  secret   = "arn:${data.aws_partition.current.partition}:secretsmanager:${local.account}:secret"
  use_key  = var.kms_key_arn != "" ? [var.kms_key_arn] : []
  boundary = var.permissions_boundary_arn != "" ? var.permissions_boundary_arn : null
  # Secrets Manager adds a dash and six characters to a secret's name.
  secrets = compact([
    "${local.secret}:${var.tenant_secret_prefix != "" ? "${var.tenant_secret_prefix}*/mimecast" : var.mimecast_secret_name}-??????",
    var.devo_secret_name != "" ? "${local.secret}:${var.tenant_secret_prefix != "" ? "${var.tenant_secret_prefix}*/devo" : var.devo_secret_name}-??????" : null,
  ])
}

data "aws_iam_policy_document" "is_lambda" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  for_each = local.chosen

  # Only items of this source, of any tenant. ForAllValues holds for a request without any key: hence Null.
  statement {
    sid       = "KeepCheckpoint"
    actions   = ["dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = ["arn:${data.aws_partition.current.partition}:dynamodb:${local.account}:table/${local.table}"]
    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["*#${each.key}"]
    }
    condition {
      test     = "Null"
      variable = "dynamodb:LeadingKeys"
      values   = ["false"]
    }
  }

  statement {
    sid       = "Log"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }

  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = local.secrets
  }

  statement {
    sid       = "ReportFailedRuns"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed_runs.arn]
  }

  # X-Ray knows no resources for these.
  statement {
    sid       = "Trace"
    actions   = ["xray:PutTraceSegments", "xray:PutTelemetryRecords"]
    resources = ["*"]
  }

  dynamic "statement" {
    for_each = local.use_key
    content {
      sid       = "UseKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

# A prefix has at most 38 characters, and the longest name of a source 18.
resource "aws_iam_role" "function" {
  for_each             = local.chosen
  name_prefix          = "${substr(var.name, 0, 17)}-${each.key}-"
  assume_role_policy   = data.aws_iam_policy_document.is_lambda.json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "function" {
  for_each = local.chosen
  name     = each.key
  role     = aws_iam_role.function[each.key].id
  policy   = data.aws_iam_policy_document.function[each.key].json
}

resource "aws_iam_role_policy_attachment" "network" {
  for_each   = length(var.subnet_ids) > 0 ? local.chosen : {}
  role       = aws_iam_role.function[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"
}
