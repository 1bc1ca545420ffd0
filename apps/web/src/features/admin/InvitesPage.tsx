// Invite links: making them, watching their use, taking them back.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { ago } from '../../lib/format';
import type { Invite } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Spinner } from '../../ui/Misc';
import { useFacts } from '../auth/facts';
import { Failed } from '../security/PasskeyList';
import { useLoaded } from '../security/useLoaded';
import styles from './admin.module.css';
import { InviteDialog } from './InviteDialog';

const MODES = {
  open: 'Anybody may make an account here. Invites also bring people into rooms.',
  invite: 'New accounts need an invite.',
  closed: 'Nobody may make an account here; invites do nothing until registration is opened.',
};

export function InvitesPage() {
  const chat = useChat();
  const { admin } = chat.client;
  const { registration } = useFacts();
  const [load] = useState(() => () => admin.invites());
  const [list, reload] = useLoaded(load);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Invite | null>(null);
  const revoke = (invite: Invite) => {
    admin.revokeInvite(invite.id).then(reload, chat.toasts.failed);
  };
  const sorted =
    list.status === 'ready'
      ? [...list.value].sort((a, b) => Number(b.open) - Number(a.open) || b.created_at - a.created_at)
      : [];
  return (
    <>
      <div className={styles.tools}>
        <p className={styles.lead}>{MODES[registration.mode]}</p>
        <Button variant="primary" onClick={() => setMaking(true)}>
          New invite
        </Button>
      </div>
      {list.status === 'loading' && <Spinner label="Loading invites" />}
      {list.status === 'failed' && <Failed what="The invites" again={reload} />}
      {list.status === 'ready' && sorted.length === 0 && (
        <p className={styles.none}>No invites yet. A link you make here brings people in.</p>
      )}
      {sorted.length > 0 && (
        <ul className={styles.list}>
          {sorted.map((invite) => (
            <li
              key={invite.id}
              className={styles.row}
              data-off={!invite.open || undefined}
              data-testid="invite"
            >
              <span className={styles.rowIcon}>
                <Icon name="mail" />
              </span>
              <span className={styles.rowText}>
                <span className={styles.rowName}>
                  <span className={styles.ellipsis}>{invite.note || 'Invite'}</span>
                  {invite.role === 'admin' && <span className={styles.badge}>Admin</span>}
                </span>
                <span className={styles.rowMeta}>
                  {usesOf(invite)} · {stateOf(invite)}
                </span>
                {invite.rooms.length > 0 && (
                  <span className={styles.rowMeta}>
                    Into {invite.rooms.map(({ room }) => `#${room}`).join(', ')}
                  </span>
                )}
              </span>
              {invite.open && (
                <Button
                  size="s"
                  aria-label={`Take back ${invite.note || 'invite'}`}
                  onClick={() => setRevoking(invite)}
                >
                  Take back
                </Button>
              )}
            </li>
          ))}
        </ul>
      )}
      {making && <InviteDialog onClose={() => setMaking(false)} onDone={reload} />}
      {revoking && (
        <Confirm
          title="Take the invite back?"
          text="The link no longer works. Accounts that were made with it stay."
          action="Take back"
          onConfirm={() => revoke(revoking)}
          onClose={() => setRevoking(null)}
        />
      )}
    </>
  );
}

function usesOf({ uses, max_uses }: Invite): string {
  return `${uses} of ${max_uses} used`;
}

export function stateOf(invite: Invite, now = Date.now()): string {
  if (invite.revoked_at != null) return `taken back ${ago(invite.revoked_at, now)}`;
  if (invite.expires_at <= now) return `ended ${ago(invite.expires_at, now)}`;
  if (invite.uses >= invite.max_uses) return 'used up';
  return `ends ${ago(invite.expires_at, now)}`;
}
