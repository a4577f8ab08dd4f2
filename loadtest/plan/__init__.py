"""What is sent when: plan, scenario, schedule, corpus, target, objective."""
