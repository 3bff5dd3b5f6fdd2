// SPDX-License-Identifier: Apache-2.0
//
// Makes every server of this process listen on 127.0.0.1 only, whatever address it asks for.
"use strict";
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const callback = args.findLast((a) => typeof a === "function");
  const first = args[0];
  const options = typeof first === "object" && first !== null ? { ...first, host: "127.0.0.1" } : { port: Number(first) || 0, host: "127.0.0.1" };
  return callback ? listen.call(this, options, callback) : listen.call(this, options);
};
