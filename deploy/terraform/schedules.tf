resource "aws_scheduler_schedule_group" "sources" {
  name = var.name
}

resource "aws_scheduler_schedule" "source" {
  for_each            = local.chosen
  name                = each.key
  group_name          = aws_scheduler_schedule_group.sources.name
  schedule_expression = var.schedule != "" ? var.schedule : each.value.schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.source[each.key].arn
    role_arn = aws_iam_role.scheduler.arn
    input    = "{}"

    retry_policy {
      maximum_event_age_in_seconds = 300
      maximum_retry_attempts       = 185
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed_runs.arn
    }
  }

  # The scheduler looks at what the role may do when it makes the schedule.
  depends_on = [aws_iam_role_policy.scheduler]
}

data "aws_iam_policy_document" "is_scheduler" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }
    # No schedule of another account or group may borrow this role.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceArn"
      values   = [aws_scheduler_schedule_group.sources.arn]
    }
  }
}

data "aws_iam_policy_document" "scheduler" {
  statement {
    sid       = "Start"
    actions   = ["lambda:InvokeFunction"]
    resources = [for function in aws_lambda_function.source : function.arn]
  }

  statement {
    sid       = "ReportUndelivered"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed_runs.arn]
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

resource "aws_iam_role" "scheduler" {
  name_prefix          = "${substr(var.name, 0, 17)}-scheduler-"
  assume_role_policy   = data.aws_iam_policy_document.is_scheduler.json
  permissions_boundary = local.boundary
}

resource "aws_iam_role_policy" "scheduler" {
  name   = "schedules"
  role   = aws_iam_role.scheduler.id
  policy = data.aws_iam_policy_document.scheduler.json
}
