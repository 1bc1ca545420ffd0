// The emoji one can pick, with the names they are read out by. The first ones are offered without opening the picker.

export interface Emoji {
  char: string;
  name: string;
}

const LIST = `👍 thumbs up|❤️ heart|😂 tears of joy|🎉 party|🙏 thank you|👀 eyes|🔥 fire|✅ done
😀 grin|😄 smile|😅 sweat smile|🤣 rolling laugh|🙂 slight smile|😉 wink|😊 blush|😍 heart eyes
😘 kiss|😎 cool|🤔 thinking|🤨 raised eyebrow|😐 neutral|🙄 eye roll|😴 asleep|🤯 mind blown
🥳 celebrating|🤩 star-struck|😢 crying|😭 sobbing|😤 huffing|😱 screaming|🤗 hug|🫡 salute
🫠 melting|😬 grimace|🥲 happy tear|🤦 facepalm|🤷 shrug|💪 strong|👏 applause|🙌 hands up
👋 wave|🤝 handshake|👌 okay|✌️ peace|🤞 fingers crossed|👎 thumbs down|👉 pointing|💯 hundred
🚀 rocket|⭐ star|✨ sparkles|💡 idea|⚡ fast|🐛 bug|🔧 wrench|📌 pin
📎 paper clip|📅 calendar|⏰ alarm|🔒 locked|🔑 key|📈 growing|📦 package|🧪 experiment
☕ coffee|🍕 pizza|🍰 cake|🍺 beer|🌱 seedling|🌞 sun|🌧️ rain|🐢 turtle
❌ no|❓ question|⚠️ warning|💬 speech|💚 green heart|💙 blue heart|🧡 orange heart|🏁 finish`;

export const EMOJI: readonly Emoji[] = LIST.split(/[|\n]/).map((entry) => {
  const [char = '', ...name] = entry.split(' ');
  return { char, name: name.join(' ') };
});

export const QUICK: readonly Emoji[] = EMOJI.slice(0, 3);

/** How an emoji is read out; one that is not in the list speaks for itself. */
export function emojiName(char: string): string {
  return EMOJI.find((emoji) => emoji.char === char)?.name ?? char;
}
