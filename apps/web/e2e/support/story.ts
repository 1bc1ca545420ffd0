// A team with something to talk about, for the product's pictures.

export interface Line {
  who: string;
  /** Minutes before now. */
  ago: number;
  text: string;
  replyTo?: number;
  edited?: string;
  reactions?: [emoji: string, by: string[]][];
}

export const TEAM: Record<string, string> = {
  mara: 'Mara Lindqvist',
  jonas: 'Jonas Albrecht',
  priya: 'Priya Raman',
  tom: 'Tom Okafor',
  elena: 'Elena Fischer',
  sam: 'Sam Whitaker',
};

/** `replyTo` is the index of an earlier line. */
export const CONVERSATION: readonly Line[] = [
  {
    who: 'jonas',
    ago: 1500,
    text: 'Evening all. The restore drill is written up: https://wiki.lighthouse.example/drills/restore',
    reactions: [['👍', ['mara', 'elena', 'sam']]],
  },
  {
    who: 'elena',
    ago: 1494,
    text: 'Read it. Clear enough that I could do it half asleep, which is the point 🙂',
  },
  { who: 'priya', ago: 1490, text: 'Then let us do it for real tomorrow morning.' },
  {
    who: 'jonas',
    ago: 96,
    text: 'Good morning! Tide tables for the autumn release are in. Anyone awake enough to look?',
  },
  { who: 'priya', ago: 93, text: 'Looking now, with coffee ☕' },
  {
    who: 'priya',
    ago: 88,
    text: 'The northern stations are off by one hour. Daylight saving again, I suspect.',
    reactions: [
      ['👀', ['jonas', 'mara']],
      ['🤦', ['tom']],
    ],
  },
  {
    who: 'jonas',
    ago: 86,
    text: 'Of course it is. Fixing:\n```\nlet local = station.zone.at(utc); // was: utc + station.offset\n```',
  },
  {
    who: 'tom',
    ago: 71,
    text: 'I can confirm it on the staging map. `station 0417` now matches the harbour master to the minute.',
    replyTo: 5,
  },
  {
    who: 'mara',
    ago: 64,
    text: 'Lovely. @jonas could you ship it before the Hamburg demo at two?',
    reactions: [['🙏', ['elena']]],
  },
  {
    who: 'jonas',
    ago: 48,
    text: 'Shipped. All 212 stations agree.',
    edited: 'Shipped. All 214 stations agree, the two new ones included.',
    reactions: [
      ['🎉', ['mara', 'priya', 'tom', 'elena']],
      ['🚀', ['sam', 'priya']],
    ],
  },
  {
    who: 'elena',
    ago: 20,
    text: 'Just drew the release banner, three variants. The one with the lighthouse in fog is my favourite.',
  },
  {
    who: 'mara',
    ago: 12,
    text: 'Fog it is. Thank you all, this was a good morning.',
    replyTo: 10,
    reactions: [['💚', ['elena', 'jonas', 'priya']]],
  },
  { who: 'sam', ago: 3, text: 'Demo room is booked, screen works, biscuits are here 🍪' },
  { who: 'tom', ago: 1, text: 'Then nothing can go wrong.', reactions: [['😂', ['sam', 'mara']]] },
];

export const ROOMS: readonly { id: string; title: string; open: boolean; lines: number }[] = [
  { id: 'announcements', title: 'Announcements', open: true, lines: 2 },
  { id: 'design-crit', title: 'Design crit', open: true, lines: 0 },
  { id: 'founders', title: 'Founders', open: false, lines: 0 },
  { id: 'harbour-pilots', title: 'Harbour pilots', open: true, lines: 7 },
  { id: 'lunch', title: 'Lunch', open: true, lines: 0 },
  { id: 'on-call', title: 'On call', open: false, lines: 1 },
  { id: 'reading-group', title: 'Reading group', open: true, lines: 0 },
];
