"""The agents of the customer service example: conversation, knowledge and escalation."""
