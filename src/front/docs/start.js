"use strict";

const ui = SwaggerUIBundle({
  dom_id: "#docs",
  url: "/openapi.json",
  deepLinking: true,
  validatorUrl: null,
  // After a login with "Try it out", all later requests carry the token.
  responseInterceptor: (response) => {
    if (response.status === 201 && new URL(response.url).pathname === "/api/v1/sessions") {
      ui.preauthorizeApiKey("bearer", response.body.token);
    }
    return response;
  },
});
