locals {
  told = compact([var.alarm_topic_arn])
}

# Each run that succeeds tells its lag: no lag is no success.
resource "aws_cloudwatch_metric_alarm" "silent" {
  for_each            = local.chosen
  alarm_name          = "${var.name}-${each.key}-silent"
  alarm_description   = "${each.key} has had no successful run for too long; its log group says why."
  namespace           = local.namespace
  metric_name         = "LagSeconds"
  dimensions          = { source = each.key, tenant = var.tenant }
  statistic           = "SampleCount"
  period              = each.value.period
  evaluation_periods  = var.silent_periods
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = local.told
  ok_actions          = local.told
}

# Nothing is published for a count of zero, so data that is missing is good news here.
resource "aws_cloudwatch_metric_alarm" "tenant" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = local.namespace
  metric_name         = each.value.metric
  dimensions          = { tenant = var.tenant }
  statistic           = each.value.statistic
  period              = each.value.period
  evaluation_periods  = each.value.periods
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.told
  ok_actions          = local.told
}

resource "aws_cloudwatch_metric_alarm" "lag" {
  alarm_name          = "${var.name}-lag"
  alarm_description   = "A source is too far behind; its log group says why."
  namespace           = local.namespace
  metric_name         = "LagSeconds"
  dimensions          = { tenant = var.tenant }
  statistic           = "Maximum"
  period              = 900
  evaluation_periods  = 2
  threshold           = var.lag_alarm_seconds
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.told
  ok_actions          = local.told
}

# It goes by what came into the queue in the last hour, not by what lies there, so it is quiet once runs succeed again.
resource "aws_cloudwatch_metric_alarm" "failed_runs" {
  alarm_name          = "${var.name}-failed-runs"
  alarm_description   = "Runs have failed in the last hour; the queue of failed runs says which."
  namespace           = "AWS/SQS"
  metric_name         = "NumberOfMessagesSent"
  dimensions          = { QueueName = aws_sqs_queue.failed_runs.name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 12
  datapoints_to_alarm = 1
  threshold           = 0
  comparison_operator = "GreaterThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.told
  ok_actions          = local.told
}
