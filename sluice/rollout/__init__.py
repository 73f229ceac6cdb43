"""`sluice rollout`: what is asked of the service, and what is shown of what it does."""
