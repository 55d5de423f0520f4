# The first four are this module's own. The others are the template's parameters, with their defaults and what they may hold.

variable "name" {
  description = "What stands at the front of every name, as a stack's name does."
  type        = string
  default     = "mimecast-devo"
  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,39}$", var.name))
    error_message = "At most 40 letters, digits and dashes."
  }
}

variable "bucket" {
  description = "The bucket, in this region, with the release's zips. Empty for those in folder."
  type        = string
  default     = ""
}

variable "prefix" {
  description = "What stands before the zips' names in the bucket. With the version in it, e.g. mimecast-devo/0.1.0/, a new one is taken up."
  type        = string
  default     = ""
}

variable "folder" {
  description = "The folder on this machine with the release's zips, where there is no bucket."
  type        = string
  default     = "."
}

variable "devo_url" {
  description = "Where events go, e.g. https://http-eu.devo.io, tls://collector-eu.devo.io:443 or relp://relay:20514; several with commas between them. The word secret if the Devo secret has a url."
  type        = string
  validation {
    condition     = can(regex("^(secret|[a-z+]+:.*)$", var.devo_url))
    error_message = "A URL like https://http-eu.devo.io, or the word secret if the Devo secret has a url."
  }
}

variable "devo_tag" {
  description = "What stands at the front of every Devo table, e.g. my.app for a trial."
  type        = string
  default     = "mail.mimecast"
  validation {
    condition     = can(regex("^[a-z0-9_]+(\\.[a-z0-9_]+)*$", var.devo_tag))
    error_message = "It has to match [a-z0-9_]+(\\.[a-z0-9_]+)*."
  }
}

variable "devo_secret_name" {
  description = "Name in Secrets Manager (not the ARN) of {domain, token} for https or {chain, cert, key} for tls. Empty if devo_url needs no credentials."
  type        = string
  default     = "mimecast-devo/devo"
  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]*$", var.devo_secret_name))
    error_message = "It has to match [A-Za-z0-9/_+=.@-]*."
  }
}

variable "mimecast_secret_name" {
  description = "Name in Secrets Manager (not the ARN) of {client_id, client_secret} or, for API 1.0, {app_id, app_key, access_key, secret_key}."
  type        = string
  default     = "mimecast-devo/mimecast"
  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]+$", var.mimecast_secret_name))
    error_message = "It has to match [A-Za-z0-9/_+=.@-]+."
  }
}

variable "mimecast_region" {
  description = "API 2.0 - global (used if empty), uk or us. API 1.0 - eu, de, us, usb, ca, za, au, je or uspcom. A region in the secret wins."
  type        = string
  default     = ""
  validation {
    condition     = contains(["", "global", "uk", "us", "eu", "de", "usb", "ca", "za", "au", "je", "uspcom"], var.mimecast_region)
    error_message = "One of none, global, uk, us, eu, de, usb, ca, za, au, je, uspcom."
  }
}

variable "sources" {
  description = "What is collected. A source that is left out has no function; its checkpoint stays as it is."
  type        = list(string)
  default     = [
    "audit", "attachments", "impersonation", "url", "search", "view",
    "threatfeed", "messageholdlist", "messageholdsummary", "dashboard", "siem",
  ]
}

variable "alarm_topic_arn" {
  description = "The topic that all alarms notify, and their end. Empty for alarms that nobody is told of."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^(arn:[a-z-]+:sns:.+)?$", var.alarm_topic_arn))
    error_message = "It has to match (arn:[a-z-]+:sns:.+)?."
  }
}

variable "kms_key_arn" {
  description = "A customer managed key of the secrets; it then also encrypts table, queue, log groups and settings, and its policy must let CloudWatch Logs use it. Empty for AWS's own keys."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^(arn:[a-z-]+:kms:.+:key/.+)?$", var.kms_key_arn))
    error_message = "It has to match (arn:[a-z-]+:kms:.+:key/.+)?."
  }
}

variable "subnet_ids" {
  description = "Subnets to run in, for a Devo relay in your own network; they need a way to Mimecast and to AWS's services. Empty for none."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups in these subnets; needed where there are subnets."
  type        = list(string)
  default     = []
}

variable "permissions_boundary_arn" {
  description = "A managed policy that bounds every role, where your organisation asks for one."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^(arn:[a-z-]+:iam::.+:policy/.+)?$", var.permissions_boundary_arn))
    error_message = "It has to match (arn:[a-z-]+:iam::.+:policy/.+)?."
  }
}

variable "log_retention_days" {
  description = "Days."
  type        = number
  default     = 30
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653], var.log_retention_days)
    error_message = "One of 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653."
  }
}

variable "architecture" {
  description = "Of the functions, and in the names of the zips."
  type        = string
  default     = "arm64"
  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "One of arm64, x86_64."
  }
}

variable "tenant" {
  description = "The tenant that is collected for. A second one is a second instance of this module."
  type        = string
  default     = "default"
  validation {
    condition     = can(regex("^[a-z0-9-]{1,64}$", var.tenant))
    error_message = "It has to match [a-z0-9-]{1,64}."
  }
}

variable "tenant_secret_prefix" {
  description = "With a prefix such as mimecast-devo/tenants/ the secrets are <prefix><tenant>/mimecast and <prefix><tenant>/devo, and the names above are not used."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([A-Za-z0-9/_+=.@-]+/)?$", var.tenant_secret_prefix))
    error_message = "It has to match ([A-Za-z0-9/_+=.@-]+/)?."
  }
}

variable "existing_table" {
  description = "Name of the checkpoint table that an earlier installation has left, to go on from its checkpoints. Empty for a new table."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([A-Za-z0-9_.-]{3,255})?$", var.existing_table))
    error_message = "It has to match ([A-Za-z0-9_.-]{3,255})?."
  }
}

variable "settings" {
  description = "More of the variables in docs/settings.md, e.g. INITIAL_LOOKBACK=7d; LOG_LEVEL=debug; DEVO_OWN_LOGS=on. Rarely needed."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([A-Z_]+=[^;]+(; *|$))*$", var.settings))
    error_message = "It has to match ([A-Z_]+=[^;]+(; *|$))*."
  }
}

variable "schedule" {
  description = "One rate or cron expression for all sources. Empty for each source's own, every 5, 15 or 60 minutes."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^((rate|cron)\\(.+\\))?$", var.schedule))
    error_message = "It has to match ((rate|cron)\\(.+\\))?."
  }
}

variable "lag_alarm_seconds" {
  description = "Alarm when a source is further behind than this for half an hour."
  type        = number
  default     = 3600
  validation {
    condition     = var.lag_alarm_seconds >= 60
    error_message = "At least 60."
  }
}

variable "silent_periods" {
  description = "Alarm when a source has had no successful run for so many of its own periods (5, 15 or 60 minutes). Raise it when you slow schedules down."
  type        = number
  default     = 6
  validation {
    condition     = var.silent_periods >= 1 && var.silent_periods <= 24
    error_message = "From 1 to 24."
  }
}
