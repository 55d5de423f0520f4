locals {
  # As the mapping in template.yaml, which says why the minutes and time-outs are these; a test compares them.
  sources = {
    audit = {
      schedule = "cron(0/5 * * * ? *)", period = 300, timeout = 270, memory = 256
      what = "Audit events", table = "mail.mimecast.audit.events"
    }
    attachments = {
      schedule = "cron(1/5 * * * ? *)", period = 300, timeout = 270, memory = 256
      what = "Attachment protection logs", table = "mail.mimecast.ttp.attachment"
    }
    impersonation = {
      schedule = "cron(2/5 * * * ? *)", period = 300, timeout = 270, memory = 256
      what = "Impersonation protection logs", table = "mail.mimecast.ttp.impersonation"
    }
    url = {
      schedule = "cron(3/5 * * * ? *)", period = 300, timeout = 270, memory = 256
      what = "URL protection logs", table = "mail.mimecast.ttp.url"
    }
    search = {
      schedule = "cron(5/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Archive search logs", table = "mail.mimecast.archive.search"
    }
    view = {
      schedule = "cron(6/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Archive message view logs", table = "mail.mimecast.archive.messageview"
    }
    threatfeed = {
      schedule = "cron(9 * * * ? *)", period = 3600, timeout = 900, memory = 256
      what = "Threat intelligence feeds", table = "mail.mimecast.threat.feed"
    }
    messageholdlist = {
      schedule = "cron(7/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Held messages", table = "mail.mimecast.message.list"
    }
    messageholdsummary = {
      schedule = "cron(8/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Summary of held messages", table = "mail.mimecast.message.summary"
    }
    dashboard = {
      schedule = "cron(14 * * * ? *)", period = 3600, timeout = 900, memory = 256
      what = "Dashboard notifications", table = "mail.mimecast.account.dashboard"
    }
    siem = {
      schedule = "cron(4/5 * * * ? *)", period = 300, timeout = 270, memory = 256
      what = "SIEM logs", table = "mail.mimecast.siem.*"
    }
    dlp = {
      schedule = "cron(10/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Data leak prevention logs", table = "my.app.mimecast.dlp"
    }
    release = {
      schedule = "cron(11/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Releases of held messages", table = "my.app.mimecast.release"
    }
    rejections = {
      schedule = "cron(12/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "Rejected messages", table = "my.app.mimecast.rejections"
    }
    siemci = {
      schedule = "cron(13/15 * * * ? *)", period = 900, timeout = 870, memory = 256
      what = "SIEM logs of Cloud Integrated", table = "my.app.mimecast.ci.*"
    }
  }

  # Alarms on anything above nothing, of the tenant over all its sources.
  alarms = {
    failures = {
      metric = "Failures", statistic = "Sum", period = 300, periods = 1
      says = "A run has failed; its message in the queue of failed runs says why and what to do."
    }
    gap = {
      metric = "GapSeconds", statistic = "Maximum", period = 300, periods = 1
      says = "Mimecast no longer had what was not collected yet; the answer and the log name the gap."
    }
    dead-letters = {
      metric = "Rejected", statistic = "Sum", period = 300, periods = 1
      says = "Input that cannot be read was kept whole in the checkpoint table, under dead#."
    }
    rate-limit = {
      metric = "RateLimitWaits", statistic = "Sum", period = 900, periods = 4
      says = "Mimecast has slowed the collector down for an hour; slow the schedules down or ask for a higher limit."
    }
    devo-refusals = {
      metric = "DevoRefusals", statistic = "Sum", period = 900, periods = 2
      says = "Devo has not accepted what it was sent for half an hour."
    }
  }
}
