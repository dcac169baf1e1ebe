variable "region" {
  description = "AWS region."
  type        = string
}

variable "name" {
  description = "Prefix of what is made; at most 20 characters, so that the names of the load balancer's parts fit."
  type        = string
  default     = "mediaflow"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,18}[a-z0-9]$", var.name))
    error_message = "Use 2 to 20 lower-case letters, digits and hyphens; begin with a letter, end without a hyphen."
  }
}

variable "tags" {
  description = "Tags of everything."
  type        = map(string)
  default     = {}
}

variable "vpc_id" {
  description = "VPC that all of it lives in."
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the load balancer, in two availability zones or more."
  type        = list(string)

  validation {
    condition     = length(var.public_subnet_ids) >= 2
    error_message = "A load balancer needs subnets in two availability zones."
  }
}

variable "private_subnet_ids" {
  description = "Subnets of the function and of Redis, in two availability zones or more."
  type        = list(string)

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "Redis fails over to another availability zone: name subnets in two."
  }
}

variable "client_cidrs" {
  description = "Addresses that players come from."
  type        = list(string)
  default     = ["0.0.0.0/0"]
}

variable "certificate_arn" {
  description = "Certificate (ACM) of the HTTPS listener."
  type        = string
}

variable "access_logs_bucket" {
  description = "Name of an S3 bucket that Elastic Load Balancing may write access logs to."
  type        = string
}

variable "web_acl_arn" {
  description = "WAFv2 web ACL in front of the load balancer; empty: none."
  type        = string
  default     = ""
}

variable "deletion_protection" {
  description = "Refuse to delete the load balancer; set to false before terraform destroy."
  type        = bool
  default     = true
}

variable "package" {
  description = "Path of the zip that holds mediaflow and its dependencies; README.md says how to build it."
  type        = string
}

variable "architecture" {
  description = "Processor that the zip was built for: arm64 or x86_64."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "Use arm64 or x86_64."
  }
}

variable "memory_mb" {
  description = "Memory of the function, and with it its share of a processor."
  type        = number
  default     = 512
}

variable "max_concurrency" {
  description = "Requests that run at once, at most; each takes an instance of the function with connections of its own."
  type        = number
  default     = 200
}

variable "settings" {
  description = "Further settings of mediaflow, as MEDIAFLOW_* variables: { MEDIAFLOW_STREAM_LIMIT = \"2\" }."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : startswith(name, "MEDIAFLOW_")])
    error_message = "Names of settings begin with MEDIAFLOW_."
  }
}

variable "api_token" {
  description = "MEDIAFLOW_API_TOKEN: what back ends authenticate with; empty: none."
  type        = string
  default     = ""
  sensitive   = true
}

variable "outbound_https" {
  description = "Let the function open HTTPS connections: needed for MEDIAFLOW_JWT_JWKS as a URL, with a route out of the private subnets."
  type        = bool
  default     = false
}

variable "redis_auth_token" {
  description = "Password of Redis, 16 to 128 printable characters."
  type        = string
  sensitive   = true

  validation {
    condition     = can(regex("^[A-Za-z0-9!&#$^<>-]{16,128}$", var.redis_auth_token))
    error_message = "Use 16 to 128 of A-Z a-z 0-9 ! & # $ ^ < > -."
  }
}

variable "redis_node_type" {
  description = "Size of a Redis node. A stream takes about a kilobyte."
  type        = string
  default     = "cache.t4g.small"
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365
}
