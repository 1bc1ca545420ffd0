// One room on the screen: its header, the conversation, the place to write, and the members beside it.

import { useCallback, useMemo, useState } from 'react';
import { useChat } from '../../app/context';
import { useMedia } from '../../app/hooks';
import type { Room } from '../../sdk';
import { Button } from '../../ui/Button';
import { ConnectionPill } from '../connection/ConnectionPill';
import { MembersPanel } from '../members/MembersPanel';
import { Composer } from './Composer';
import styles from './chat.module.css';
import { MessageList } from './MessageList';
import { RoomHeader } from './RoomHeader';
import { TypingLine } from './TypingLine';

export function ChatView({ room }: { room: Room }) {
  const chat = useChat();
  const model = useMemo(() => chat.open(room.id), [chat, room.id]);
  const wide = useMedia('(min-width: 1100px)');
  const [membersChosen, setMembersChosen] = useState<boolean | null>(null);
  const membersShown = membersChosen ?? wide;
  const [adding, setAdding] = useState(0);
  const [editing, setEditing] = useState<number | null>(null);
  const [sent, setSent] = useState(0);

  const edit = useCallback((seq: number | null) => {
    setEditing(seq);
    if (seq === null) document.getElementById('composer')?.focus();
  }, []);
  const reply = useCallback((seq: number) => model.setReply(seq), [model]);
  const editLast = () => {
    const me = chat.me.get().id;
    const last = model.timeline
      .snapshot()
      .items.findLast((item) => item.kind === 'message' && item.sender === me && !item.redacted);
    if (last !== undefined) setEditing(last.seq);
  };
  const canSend = room.role !== null && room.role !== 'guest';
  return (
    <div className={styles.view} data-members={membersShown || undefined}>
      <main className={styles.conversation}>
        <RoomHeader
          room={room}
          membersShown={membersShown}
          onToggleMembers={() => setMembersChosen(!membersShown)}
          onAddPeople={() => {
            setMembersChosen(true);
            setAdding(adding + 1);
          }}
        />
        <div className={styles.stage}>
          <ConnectionPill />
          <MessageList
            room={room}
            model={model}
            editing={editing}
            onEdit={edit}
            onReply={reply}
            sent={sent}
          />
        </div>
        {canSend ? (
          <>
            <Composer room={room} model={model} onSent={() => setSent(sent + 1)} onEditLast={editLast} />
            <TypingLine room={room.id} />
          </>
        ) : (
          <GuestBar room={room} />
        )}
      </main>
      {membersShown && (
        <MembersPanel
          room={room}
          adding={adding}
          onAdding={(open) => setAdding(open ? adding + 1 : 0)}
          onClose={() => {
            setMembersChosen(false);
            setAdding(0);
          }}
        />
      )}
    </div>
  );
}

function GuestBar({ room }: { room: Room }) {
  const chat = useChat();
  const [busy, setBusy] = useState(false);
  const join = () => {
    setBusy(true);
    chat
      .joinRoom(room.id)
      .catch(chat.toasts.failed)
      .finally(() => setBusy(false));
  };
  return (
    <div className={styles.guest}>
      <span>You are reading as a guest.</span>
      {room.settings.public && (
        <Button variant="primary" size="s" busy={busy} onClick={join}>
          Join to talk
        </Button>
      )}
    </div>
  );
}
