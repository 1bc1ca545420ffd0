// What the gateway does now, and did in the last ten minutes.

import { useCallback, useEffect, useRef, useState } from 'react';
import { useChat } from '../../app/context';
import { ago, longTime } from '../../lib/format';
import type { ServerSample, ServerStats } from '../../sdk';
import { Spinner } from '../../ui/Misc';
import { Failed } from '../security/PasskeyList';
import { Plot } from './Plot';
import { bytes, count, milliseconds, perSecond } from './figures';
import styles from './overview.module.css';

interface Figure {
  title: string;
  /** What it means for whoever looks at it. */
  about: string;
  now(stats: ServerStats): number | null;
  of(sample: ServerSample): number | null;
  show(value: number): string;
  /** The smallest height of the plot, so that next to nothing does not look like a mountain. */
  least: number;
}

const last = (stats: ServerStats): ServerSample | undefined => stats.samples.at(-1);

const FIGURES: readonly Figure[] = [
  {
    title: 'Connections',
    about: 'Open WebSockets',
    now: (stats) => stats.now.sockets,
    of: (sample) => sample.sockets,
    show: count,
    least: 10,
  },
  {
    title: 'Messages',
    about: 'Events committed in a second',
    now: (stats) => last(stats)?.events_per_s ?? null,
    of: (sample) => sample.events_per_s,
    show: perSecond,
    least: 5,
  },
  {
    title: 'Commits',
    about: '99 of a hundred were on disk in this time',
    now: (stats) => last(stats)?.commit_p99_ms ?? null,
    of: (sample) => sample.commit_p99_ms,
    show: milliseconds,
    least: 5,
  },
  {
    title: 'Readers behind',
    about: 'Subscriptions that read from the log',
    now: (stats) => stats.now.behind,
    of: (sample) => sample.behind,
    show: count,
    least: 10,
  },
  {
    title: 'Storage',
    about: 'The database file',
    now: (stats) => stats.now.storage_bytes,
    of: (sample) => sample.storage_bytes,
    show: bytes,
    least: 1024 * 1024,
  },
  {
    title: 'Memory',
    about: 'Of the whole process',
    now: (stats) => stats.now.memory_bytes,
    of: (sample) => sample.memory_bytes,
    show: bytes,
    least: 64 * 1024 * 1024,
  },
];

const REST: readonly { name: string; of(stats: ServerStats): number | null; show?(value: number): string }[] = [
  { name: 'Rooms being read', of: (stats) => stats.now.rooms },
  { name: 'Subscriptions', of: (stats) => stats.now.subscriptions },
  { name: 'HTTP connections', of: (stats) => stats.now.connections },
  { name: 'Open files', of: (stats) => stats.now.open_files },
  { name: 'Threads', of: (stats) => stats.now.threads },
  { name: 'Cache of the file', of: (stats) => stats.now.cache_bytes, show: bytes },
  { name: 'Messages since the start', of: (stats) => stats.totals.events },
  { name: 'Deliveries since the start', of: (stats) => stats.totals.deliveries },
  { name: 'Log lines lost', of: (stats) => stats.totals.log_lines_dropped },
];

export function OverviewPage() {
  const { stats, failed, reload } = useStats();
  if (stats === null) {
    return failed ? <Failed what="The overview" again={reload} /> : <Spinner label="Loading the overview" />;
  }
  const to = stats.at;
  return (
    <>
      <p className={styles.lead}>
        Stack {stats.version}, started{' '}
        <time dateTime={new Date(stats.started_at).toISOString()} title={longTime(stats.started_at)}>
          {ago(stats.started_at)}
        </time>
        .{failed && <span className={styles.stale}> The gateway does not answer; these are its last figures.</span>}
      </p>
      <div className={styles.figures}>
        {FIGURES.map((figure) => (
          <Plot
            key={figure.title}
            title={figure.title}
            about={figure.about}
            now={figure.now(stats)}
            points={stats.samples.map((sample) => ({ at: sample.at, value: figure.of(sample) }))}
            from={to - SPAN_MS}
            to={to}
            show={figure.show}
            least={figure.least}
          />
        ))}
      </div>
      <h2 className={styles.heading}>Also</h2>
      <dl className={styles.rest}>
        {REST.map(({ name, of, show = count }) => {
          const value = of(stats);
          return (
            <div key={name} className={styles.pair}>
              <dt>{name}</dt>
              <dd>{value === null ? 'not known' : show(value)}</dd>
            </div>
          );
        })}
      </dl>
    </>
  );
}

/** What the gateway keeps. */
const SPAN_MS = 10 * 60_000;
/** The gateway adds a sample as often. */
const EVERY_MS = 5_000;

/** The figures, asked for again while somebody looks. */
function useStats(): { stats: ServerStats | null; failed: boolean; reload(): void } {
  const { admin } = useChat().client;
  const [stats, setStats] = useState<ServerStats | null>(null);
  const [failed, setFailed] = useState(false);
  const wanted = useRef(true);
  const load = useCallback(() => {
    admin.stats().then(
      (stats) => {
        if (!wanted.current) return;
        setStats(stats);
        setFailed(false);
      },
      () => wanted.current && setFailed(true),
    );
  }, [admin]);
  useEffect(() => {
    wanted.current = true;
    load();
    const look = () => {
      if (!document.hidden) load();
    };
    const timer = setInterval(look, EVERY_MS);
    document.addEventListener('visibilitychange', look);
    return () => {
      wanted.current = false;
      clearInterval(timer);
      document.removeEventListener('visibilitychange', look);
    };
  }, [load]);
  return { stats, failed, reload: load };
}
