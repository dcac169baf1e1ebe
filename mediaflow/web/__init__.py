"""What all HTTP surfaces share: routes, problems, authorization, OpenAPI, health, and a program's life."""
