"""From one command to two running agents: the self-contained agent file, its way over ssh, the steps of a migration."""
