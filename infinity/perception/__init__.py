"""Pretrained networks that judge pictures: loaded from published weights, by path or URL."""
