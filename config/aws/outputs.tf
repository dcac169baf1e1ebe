output "balancer_dns_name" {
  description = "Where the certificate's name has to point to."
  value       = aws_lb.this.dns_name
}

output "balancer_zone_id" {
  description = "Hosted zone of that name, for an alias record."
  value       = aws_lb.this.zone_id
}

output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "log_group" {
  description = "Where the function logs."
  value       = aws_cloudwatch_log_group.function.name
}
