for part in framework controlplane hostagent cli; do
  printf '%-14s %6d lines of Python\n' "$part" "$(find "$part" -name '*.py' -exec cat {} + | wc -l)"
done
