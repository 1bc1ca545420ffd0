// The icons, drawn on a 20-pixel grid with one stroke width. They are decoration: the words stand beside them.

const PATHS = {
  hash: 'M4 7.5h12.5M3.5 12.5H16M8.4 3.5 6.6 16.5M13.4 3.5l-1.8 13',
  lock: 'M5.5 9h9a1 1 0 0 1 1 1v5.5a1 1 0 0 1-1 1h-9a1 1 0 0 1-1-1V10a1 1 0 0 1 1-1ZM7 9V6.5a3 3 0 0 1 6 0V9',
  plus: 'M10 4v12M4 10h12',
  compass: 'M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM13 7l-1.7 4.3L7 13l1.7-4.3L13 7Z',
  send: 'M4 10 3 3.6 17 10 3 16.4 4 10Zm0 0h6',
  smile: 'M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM7 11.8a3.6 3.6 0 0 0 6 0M7.4 7.8v.3M12.6 7.8v.3',
  reply: 'M8 5 3.5 9.5 8 14M4 9.5h7.5c3 0 5 2 5 5.5',
  pencil: 'M3.5 16.5 4.3 13 13.2 4.1a1.4 1.4 0 0 1 2 0l.7.7a1.4 1.4 0 0 1 0 2L7 15.7l-3.5.8Z',
  trash: 'M3.5 5.5h13M8 5.5v-2h4v2M5.5 5.5l.7 11h7.6l.7-11M8.4 9v4.5M11.6 9v4.5',
  users:
    'M7.5 9.5a3 3 0 1 0 0-6 3 3 0 0 0 0 6ZM2 16.5c0-2.8 2.2-4.5 5.5-4.5s5.5 1.7 5.5 4.5M13 3.8a3 3 0 0 1 0 5.4M15 12.4c1.9.7 3 2.1 3 4.1',
  userPlus:
    'M8.5 10a3.4 3.4 0 1 0 0-6.8 3.4 3.4 0 0 0 0 6.8ZM2 17c0-3 2.6-4.7 6.5-4.7 1.4 0 2.7.2 3.7.7M16 11.5v5M13.5 14h5',
  ban: 'M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM4.7 4.7l10.6 10.6',
  sliders: 'M3 6h8M15 6h2M3 14h2M9 14h8M13 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4ZM7 16a2 2 0 1 0 0-4 2 2 0 0 0 0 4Z',
  back: 'M12.5 4 6.5 10l6 6',
  close: 'M5 5l10 10M15 5 5 15',
  sun: 'M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4ZM10 2v1.8M10 16.2V18M2 10h1.8M16.2 10H18M4.3 4.3l1.3 1.3M14.4 14.4l1.3 1.3M4.3 15.7l1.3-1.3M14.4 5.6l1.3-1.3',
  moon: 'M16.5 11.8A6.8 6.8 0 0 1 8.2 3.5a6.8 6.8 0 1 0 8.3 8.3Z',
  monitor: 'M3.5 4h13a1 1 0 0 1 1 1v7.5a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1ZM7 16.5h6M10 13.5v3',
  signout: 'M8 3.5H5a1 1 0 0 0-1 1v11a1 1 0 0 0 1 1h3M12.5 6.5 16 10l-3.5 3.5M16 10H8',
  more: 'M4.5 10h.01M10 10h.01M15.5 10h.01',
  down: 'M10 4v12M4.5 10.5 10 16l5.5-5.5',
  chevron: 'M5.5 8 10 12.5 14.5 8',
  check: 'M4 10.5 8 14.5 16 5.5',
  alert: 'M10 6.5v4.2M10 13.6v.1M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15Z',
  offline:
    'M3 3l14 14M6.2 11.2a5.4 5.4 0 0 1 2.6-1.4M3.4 8.3a9.4 9.4 0 0 1 3-1.9M10 6a9.5 9.5 0 0 1 6.6 2.3M12.6 10.4c.5.2.9.5 1.3.8M10 15v.1',
  clock: 'M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15ZM10 5.8V10l2.8 1.8',
  search: 'M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11ZM13 13l3.8 3.8',
  user: 'M10 10a3.4 3.4 0 1 0 0-6.8A3.4 3.4 0 0 0 10 10ZM3.5 17c0-3 2.6-4.7 6.5-4.7s6.5 1.7 6.5 4.7',
  key: 'M7 14.5a3.8 3.8 0 1 0 0-7.6 3.8 3.8 0 0 0 0 7.6ZM9.8 8.2 16 3M13.2 5.4l2 2.2',
  passkey:
    'M8 9.4a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4ZM2 16.5c0-2.8 2.4-4.6 6-4.6 1 0 1.9.1 2.7.4M15 11.6a2.4 2.4 0 1 0 0-4.8 2.4 2.4 0 0 0 0 4.8ZM15 11.6V17l1.5-1.3M15 14.3h1.5',
  shield: 'M10 2.5 4 4.8v4.7c0 3.7 2.5 6.5 6 8 3.5-1.5 6-4.3 6-8V4.8L10 2.5ZM7.5 9.8l1.9 1.9 3.3-3.6',
  phone: 'M6.5 2.5h7a1 1 0 0 1 1 1v13a1 1 0 0 1-1 1h-7a1 1 0 0 1-1-1v-13a1 1 0 0 1 1-1ZM9 15h2',
  link: 'M8.5 11.5a3 3 0 0 0 4.3 0l2.7-2.7a3 3 0 0 0-4.3-4.3l-.9.9M11.5 8.5a3 3 0 0 0-4.3 0l-2.7 2.7a3 3 0 0 0 4.3 4.3l.9-.9',
  mail: 'M3.5 4.5h13a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1ZM3 6l7 5 7-5',
  copy: 'M7.5 7.5h8a1 1 0 0 1 1 1v7a1 1 0 0 1-1 1h-8a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1ZM4.5 12.5h-.5a1 1 0 0 1-1-1v-7a1 1 0 0 1 1-1h7.5a1 1 0 0 1 1 1V5',
  download: 'M10 3v9.5M5.5 8.5 10 13l4.5-4.5M4 16.5h12',
  mute: 'M3 8v4h3l4 3.5v-11L6 8H3ZM13.5 8l4 4M17.5 8l-4 4',
  list: 'M7 5.5h9.5M7 10h9.5M7 14.5h9.5M3.5 5.5h.01M3.5 10h.01M3.5 14.5h.01',
  retry: 'M16 10a6 6 0 1 1-1.8-4.3M16.3 3v3.6h-3.6',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 20 20"
      fill="none"
      stroke="currentColor"
      strokeWidth={name === 'more' ? 2.6 : 1.6}
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Three layers, the shortest at the bottom: a log that grows upward. */
export function Logo({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" fill="var(--accent)" />
      <g fill="var(--on-accent)">
        <rect x="8" y="7.5" width="16" height="4.5" rx="2.25" />
        <rect x="8" y="13.75" width="12" height="4.5" rx="2.25" opacity=".78" />
        <rect x="8" y="20" width="7.5" height="4.5" rx="2.25" opacity=".56" />
      </g>
    </svg>
  );
}
