"""FACTS: arms, cameras, units, the policy card. Bottom of the house."""
