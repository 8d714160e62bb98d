"use strict";

const ui = SwaggerUIBundle({
  dom_id: "#docs",
  url: "/openapi.json",
  deepLinking: true,
  validatorUrl: null,
  // Whoever logs in with "Try it out" is logged in for everything after it.
  responseInterceptor: (response) => {
    if (response.status === 201 && new URL(response.url).pathname === "/api/v1/sessions") {
      ui.preauthorizeApiKey("bearer", response.body.token);
    }
    return response;
  },
});
