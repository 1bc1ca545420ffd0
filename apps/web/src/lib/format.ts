// Times and lists in the reader's own language and time zone.

const time = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const sameYear = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const otherYear = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' });

const DAY_MS = 86_400_000;

function midnight(ts: number): number {
  return new Date(ts).setHours(0, 0, 0, 0);
}

export function sameDay(a: number, b: number): boolean {
  return midnight(a) === midnight(b);
}

export function clock(ts: number): string {
  return time.format(ts);
}

export function longTime(ts: number): string {
  return full.format(ts);
}

/** Today, Yesterday, or the date. */
export function dayName(ts: number, now = Date.now()): string {
  const days = Math.round((midnight(now) - midnight(ts)) / DAY_MS);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return new Date(ts).getFullYear() === new Date(now).getFullYear()
    ? sameYear.format(ts)
    : otherYear.format(ts);
}

/** "5 minutes ago", "yesterday". */
export function ago(ts: number, now = Date.now()): string {
  const seconds = Math.round((ts - now) / 1000);
  const steps: [Intl.RelativeTimeFormatUnit, number][] = [
    ['year', 31_536_000],
    ['month', 2_592_000],
    ['day', 86_400],
    ['hour', 3_600],
    ['minute', 60],
  ];
  for (const [unit, size] of steps) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return 'just now';
}

/** "Ada", "Ada and Ben", "Ada, Ben and 3 others". */
export function nameList(names: readonly string[], most = 3): string {
  if (names.length <= 1) return names[0] ?? '';
  if (names.length <= most) return `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
  const rest = names.length - (most - 1);
  return `${names.slice(0, most - 1).join(', ')} and ${rest} others`;
}
