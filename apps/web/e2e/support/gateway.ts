// Starts a gateway of its own for a test: port 0, a temporary data directory, the built client inside it.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
/** Browsers under test type faster than people may. */
const UNHURRIED = { STACK_RATE_ENABLED: 'false' };
const START_TIMEOUT_MS = 20_000;

function binary(): string {
  const given = process.env.STACK_GATEWAY;
  if (given !== undefined) return given;
  const target = resolve(here, '../../../../target');
  const found = ['release', 'debug'].map((kind) => join(target, kind, 'stack-gateway')).find(existsSync);
  if (found === undefined) throw new Error('no gateway is built; build it or set STACK_GATEWAY');
  return found;
}

export interface GatewayOptions {
  /** More environment variables, for example a shorter life of tokens. */
  env?: Record<string, string>;
}

export class Gateway {
  readonly #dataDir: string;
  readonly #env: Record<string, string>;
  #process: ChildProcess | null = null;
  #address = '127.0.0.1:0';
  #output = '';

  private constructor(dataDir: string, options: GatewayOptions) {
    this.#dataDir = dataDir;
    this.#env = options.env ?? {};
  }

  static async start(options: GatewayOptions = {}): Promise<Gateway> {
    const gateway = new Gateway(await mkdtemp(join(tmpdir(), 'stack-e2e-')), options);
    await gateway.run();
    return gateway;
  }

  /** By name: passkeys belong to a host name, and an address of numbers is none. */
  get url(): string {
    return `http://${this.#address.replace('127.0.0.1', 'localhost')}`;
  }

  /** The link to the first run, as the start printed it. */
  async setupUrl(): Promise<string> {
    for (;;) {
      const url = /Set up: (\S+)/.exec(this.#output)?.[1];
      if (url !== undefined) return url;
      await new Promise((more) => this.#process?.stdout?.once('data', more));
    }
  }

  /** Starts the process; after `kill`, on the same port and the same file. */
  async run(): Promise<void> {
    const { STACK_PUBLIC_URL: _, ...inherited } = process.env;
    const child = spawn(binary(), ['serve', '--listen', this.#address, '--data-dir', this.#dataDir], {
      env: { ...inherited, ...UNHURRIED, ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    // A test that is cut off for its time cleans up nothing; its gateway must not outlive it.
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    child.once('exit', () => process.off('exit', orphaned));
    this.#output = '';
    child.stdout?.on('data', (chunk: Buffer) => {
      this.#output += chunk.toString();
    });
    this.#address = await listening(child);
  }

  /** SIGKILL: no warning, no cleaning up. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM: it tells its clients, finishes what it has, and goes; the data stays for `run`. */
  async shutDown(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((done) => child.once('exit', () => done()));
    child.kill(signal);
    const force = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await gone;
    clearTimeout(force);
  }
}

/** The address the gateway says it listens on. */
function listening(child: ChildProcess): Promise<string> {
  return new Promise((done, fail) => {
    let output = '';
    const give = (error: Error) => {
      child.kill('SIGKILL');
      fail(error);
    };
    const timer = setTimeout(
      () => give(new Error(`the gateway did not start:\n${output}`)),
      START_TIMEOUT_MS,
    );
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const address = /listening on http:\/\/(127\.0\.0\.1:\d+)/.exec(output)?.[1];
      if (address === undefined) return;
      clearTimeout(timer);
      done(address);
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('exit', (code) => {
      clearTimeout(timer);
      give(new Error(`the gateway ended with ${code}:\n${output}`));
    });
  });
}
