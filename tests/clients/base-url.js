// Asks an API through clients that know its base URL and a key, and nothing of any proxy.
//
//   base-url.js CLIENT BASE KEY AMOUNT
//
// Prints a JSON object: the status, and what the client made of the answer.
"use strict";

const Stripe = require("stripe");

const CLIENTS = {
  /** What Node has built in: it ignores proxy variables before Node 24. */
  async fetch(base, key, amount) {
    const body = new URLSearchParams({ amount });
    const headers = { Authorization: `Bearer ${key}` };
    const response = await fetch(`${base}/v1/refunds`, { method: "POST", body, headers });
    return { status: response.status, answer: await response.json() };
  },

  async stripe(base, key, amount) {
    const { hostname, port, protocol } = new URL(base);
    const stripe = new Stripe(key, {
      host: hostname,
      port,
      protocol: protocol.replace(":", ""),
      maxNetworkRetries: 0,
      telemetry: false,
    });
    try {
      const refund = await stripe.refunds.create({ amount });
      return { status: refund.lastResponse.statusCode, answer: refund };
    } catch (error) {
      return { status: error.statusCode, answer: error.raw };
    }
  },
};

async function main(client, base, key, amount) {
  console.log(JSON.stringify(await CLIENTS[client](base, key, amount)));
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
