// Two real OpenID providers on this machine, the ones of the gateway's own tests (tests/oidc), and the person in
// front of their screens.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const folder = resolve(dirname(fileURLToPath(import.meta.url)), '../../../../tests/oidc');

export interface ProvidersPerson {
  sub: string;
  name?: string;
  email?: string;
  email_verified?: boolean;
  preferred_username?: string;
  deny?: boolean;
}

export class Providers {
  private constructor(
    private readonly process: ChildProcess,
    private readonly places: { one: string; two: string; control: string },
  ) {}

  static async start(): Promise<Providers> {
    const child = spawn(process.execPath, ['provider.mjs'], {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const orphaned = () => child.kill('SIGKILL');
    process.once('exit', orphaned);
    child.once('exit', () => process.off('exit', orphaned));
    const [line] = await once(createInterface({ input: child.stdout }), 'line');
    return new Providers(child, JSON.parse(line));
  }

  /** What makes a gateway know the first one, as "Harbour ID". */
  get env(): Record<string, string> {
    return {
      STACK_AUTH_OAUTH_ONE_TITLE: 'Harbour ID',
      STACK_AUTH_OAUTH_ONE_ISSUER: this.places.one,
      STACK_AUTH_OAUTH_ONE_CLIENT_ID: 'stack',
      STACK_AUTH_OAUTH_ONE_CLIENT_SECRET: 'secret of one',
    };
  }

  /** Lets it answer, and lead back to the gateway. */
  open(gateway: string): Promise<void> {
    return this.#tell('open', { callbacks: [`${gateway}/api/v1/auth/oauth/one/callback`] });
  }

  person(person: ProvidersPerson): Promise<void> {
    return this.#tell('person', person);
  }

  async stop(): Promise<void> {
    const gone = once(this.process, 'exit');
    this.process.stdin?.end();
    await gone;
  }

  async #tell(what: string, body: object): Promise<void> {
    const answer = await fetch(`${this.places.control}/${what}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ provider: 'one', ...body }),
    });
    if (!answer.ok) throw new Error(`${what}: ${answer.status} ${await answer.text()}`);
  }
}
