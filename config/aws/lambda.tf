resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.this.arn
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "function" {
  # checkov:skip=CKV_AWS_111:EC2 knows no narrower resource for the network interfaces of a function; see Deny.
  # checkov:skip=CKV_AWS_356:As above.
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function.arn}:*"]
  }

  statement {
    sid       = "Environment"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid       = "NetworkInterfaces"
    actions   = local.interface_actions
    resources = ["*"]
  }

  # The interfaces are Lambda's business: the code itself may not touch any.
  statement {
    sid       = "NotFromTheCode"
    effect    = "Deny"
    actions   = local.interface_actions
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "lambda:SourceFunctionArn"
      values   = [local.function_arn]
    }
  }
}

locals {
  # Written out, because the function needs the role and the role's policy names the function.
  function_arn = "arn:${data.aws_partition.current.partition}:lambda:${var.region}:${data.aws_caller_identity.current.account_id}:function:${var.name}"

  interface_actions = [
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
  ]

  redis_url = format(
    "rediss://:%s@%s:6379/0",
    urlencode(var.redis_auth_token),
    aws_elasticache_replication_group.redis.primary_endpoint_address,
  )
}

resource "aws_iam_role" "function" {
  name               = "${var.name}-function"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "function" {
  name   = "function"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.function.json
}

resource "aws_lambda_function" "this" {
  # checkov:skip=CKV_AWS_116:A dead letter queue is for asynchronous calls; a load balancer's are synchronous.
  # checkov:skip=CKV_AWS_272:Whoever signs code has a signing profile of their own: add its code_signing_config_arn.
  function_name = var.name
  description   = "Counts the streams of users"
  role          = aws_iam_role.function.arn

  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  handler          = "mediaflow.concurrency.aws_lambda.handler"
  runtime          = "python3.13"
  architectures    = [var.architecture]

  memory_size                    = var.memory_mb
  timeout                        = 10
  reserved_concurrent_executions = var.max_concurrency
  kms_key_arn                    = aws_kms_key.this.arn

  environment {
    variables = merge(
      { MEDIAFLOW_LOG_FORMAT = "json" },
      var.settings,
      {
        MEDIAFLOW_REDIS_URL = local.redis_url
        MEDIAFLOW_API_TOKEN = var.api_token
      },
    )
  }

  vpc_config {
    subnet_ids         = var.private_subnet_ids
    security_group_ids = [aws_security_group.function.id]
  }

  tracing_config {
    mode = "PassThrough"
  }

  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy.function]
}
