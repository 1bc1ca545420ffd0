// Two OpenID providers on this machine, for the gateway's tests. They are the real thing; only the person in front of
// the screen is played: who signs in, and whether they say yes, is told on the control port.
//
// One line of JSON on standard output says where everything is: {one, two, control}, the first two being issuers. The
// client of each is `stack` with the secret `secret of one`, `secret of two`. The process ends when its standard input
// does, so that it never outlives the test that started it.
//
//   POST <control>/open    {provider, callbacks}: from now on it answers, and leads back to these
//   POST <control>/person  {provider, sub, email?, email_verified?, name?, preferred_username?, deny?}
//   POST <control>/down    {provider}: stops listening
import { createServer } from 'node:http';
import { once } from 'node:events';
import Provider from 'oidc-provider';

// Its warnings are about keys and addresses that a test does not need to be good.
console.warn = () => {};
console.info = () => {};

const people = new Map();

async function listen(handler) {
  const server = createServer(handler);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function url(server) {
  return `http://127.0.0.1:${server.address().port}`;
}

function closed(_, response) {
  response.statusCode = 503;
  response.end();
}

async function start() {
  const place = { answer: closed };
  place.server = await listen((request, response) => place.answer(request, response));
  place.issuer = url(place.server);
  return place;
}

function open(place, name, callbacks) {
  const provider = new Provider(place.issuer, {
    clients: [
      {
        client_id: 'stack',
        client_secret: `secret of ${name}`,
        redirect_uris: callbacks,
        grant_types: ['authorization_code'],
        response_types: ['code'],
      },
    ],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    // Cookies know no ports, and both providers are at one host.
    cookies: {
      keys: ['a test needs no better one'],
      names: { session: `session-${name}`, interaction: `interaction-${name}`, resume: `resume-${name}` },
    },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => people.get(name) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    pkce: { required: () => true },
    ttl: { Session: 600, Interaction: 600, Grant: 600, AccessToken: 60, IdToken: 60 },
  });
  const callback = provider.callback();
  place.answer = (request, response) => {
    if (!request.url.startsWith('/interaction/')) return callback(request, response);
    return interact(provider, name, request, response).catch((error) => {
      response.statusCode = 500;
      response.end(String(error));
    });
  };
}

async function interact(provider, name, request, response) {
  const person = people.get(name);
  const { prompt, params, grantId } = await provider.interactionDetails(request, response);
  if (person.deny) {
    const denied = { error: 'access_denied', error_description: 'they said no' };
    return provider.interactionFinished(request, response, denied, { mergeWithLastSubmission: false });
  }
  if (prompt.name === 'login') {
    const login = { login: { accountId: person.sub } };
    return provider.interactionFinished(request, response, login, { mergeWithLastSubmission: false });
  }
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: person.sub, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, consent, { mergeWithLastSubmission: true });
}

async function body(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

const providers = { one: await start(), two: await start() };

const control = await listen(async (request, response) => {
  const { provider, ...person } = await body(request);
  if (request.url === '/open') {
    open(providers[provider], provider, person.callbacks);
  } else if (request.url === '/down') {
    const { server } = providers[provider];
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  } else {
    people.set(provider, person);
  }
  response.end();
});

process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ one: providers.one.issuer, two: providers.two.issuer, control: url(control) }));
