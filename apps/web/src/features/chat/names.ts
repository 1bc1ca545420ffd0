// Names of people, for components.

import { useEffect } from 'react';
import { useChat } from '../../app/context';
import { useSelect } from '../../app/hooks';
import type { Chat } from '../../state/chat';

export const NAMELESS = 'Someone';

/** The display name behind an id; asked for when nobody has told it. */
export function useName(id: string): string {
  const chat = useChat();
  const name = useSelect(chat.people.users, (users) => users.get(id)?.display_name);
  useEffect(() => {
    if (name === undefined) chat.people.need(id);
  }, [chat, id, name]);
  return name ?? NAMELESS;
}

/** The same without watching, for what is read once. */
export function nameOf(chat: Chat, id: string): string {
  if (id === chat.me.get().id) return 'you';
  return chat.people.users.get().get(id)?.display_name ?? NAMELESS;
}
