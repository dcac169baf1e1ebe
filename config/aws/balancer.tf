resource "aws_lb" "this" {
  # checkov:skip=CKV2_AWS_28:A web ACL is the choice of whoever runs it: web_acl_arn.
  # checkov:skip=CKV2_AWS_76:As above; there is no Java behind it.
  name               = var.name
  load_balancer_type = "application"
  internal           = false
  subnets            = var.public_subnet_ids
  security_groups    = [aws_security_group.balancer.id]

  drop_invalid_header_fields = true
  desync_mitigation_mode     = "strictest"
  enable_deletion_protection = var.deletion_protection

  access_logs {
    bucket  = var.access_logs_bucket
    prefix  = var.name
    enabled = true
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = var.web_acl_arn == "" ? 0 : 1

  resource_arn = aws_lb.this.arn
  web_acl_arn  = var.web_acl_arn
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "HTTPS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.function.arn
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "HTTP"
  port              = 80

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_target_group" "function" {
  name                               = var.name
  target_type                        = "lambda"
  lambda_multi_value_headers_enabled = true

  # Each check is a call that is paid for, and keeps an instance warm.
  health_check {
    enabled  = true
    path     = "/healthz"
    interval = 60
    timeout  = 15
    matcher  = "200"
  }
}

resource "aws_lambda_permission" "balancer" {
  statement_id  = "balancer"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.this.function_name
  principal     = "elasticloadbalancing.amazonaws.com"
  source_arn    = aws_lb_target_group.function.arn
}

resource "aws_lb_target_group_attachment" "function" {
  target_group_arn = aws_lb_target_group.function.arn
  target_id        = aws_lambda_function.this.arn
  depends_on       = [aws_lambda_permission.balancer]
}
