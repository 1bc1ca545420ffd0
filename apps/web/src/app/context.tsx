// Hands the session and the chat down to whoever draws them.

import { createContext, useContext } from 'react';
import type { Chat } from '../state/chat';
import type { Session } from '../state/session';

export const SessionContext = createContext<Session | null>(null);
export const ChatContext = createContext<Chat | null>(null);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error('useSession needs a SessionContext');
  return session;
}

export function useChat(): Chat {
  const chat = useContext(ChatContext);
  if (chat === null) throw new Error('useChat needs a ChatContext');
  return chat;
}
