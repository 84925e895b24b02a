#!/bin/bash
# Sends the end of a unit's log.
log=$(journalctl -u "$1" -n 15 --no-pager)
curl -s "https://api.telegram.org/bot${TELEGRAM_TOKEN}/sendMessage" \
  -d chat_id=42 -d parse_mode=Markdown --data-urlencode "text=*$1* failed
\`\`\`
$log
\`\`\`"
